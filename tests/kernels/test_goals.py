"""Rows of a benchmark against the goals."""

from vlseg.kernels import goals, timing

TOP = timing.Ceilings(copy=1e12, matmul=1e14)


def row(impl, ms, op="bottleneck", launch="plain", name="forward"):
    moved, flops = 5 * 10**8, 10**9
    found = {"op": op, "impl": impl, "pass": name, "launch": launch, "batch": 1, "tokens": 485, "ms_p50": ms}
    return found | {"bytes": moved, "flops": flops} | TOP.columns() | TOP.shares(moved, flops, ms)


def test_shares_are_of_the_ceilings():
    found = row("fused", 1.0)
    assert found["share_of_copy"] == 0.5 and found["share_of_matmul"] == 0.01 and found["bound"] == "memory"
    assert TOP.shares(10**6, 10**11, 2.0) == {"share_of_copy": 0.0005, "share_of_matmul": 0.5, "bound": "compute"}


def test_a_verdict_names_each_goal():
    text = goals.verdicts([row("fused", 1.0), row("eager", 4.0), row("compile", 1.1)])
    assert text == (
        "bottleneck 1 485 forward plain: 4.00x eager (goal 3.0, met), 1.10x compile (goal 1.2, missed), "
        "50% of memory (goal 80%, missed)"
    )


def test_goals_of_the_fusion_depend_on_the_launch():
    assert goals.goals(row("fused", 1.0, "text_pooling")) == [goals.Goal("eager", 5.0)]
    assert goals.goals(row("fused", 1.0, "text_pooling", "graph")) == [goals.Goal("eager", 3.0)]
    assert goals.goals(row("fused", 1.0, "text_pooling", name="forward+backward")) == []
    assert goals.goals(row("fused", 1.0, name="forward+backward"))[0] == goals.Goal("eager", 2.0)


def test_what_was_not_timed_is_said():
    assert "compile not measured" in goals.verdicts([row("fused", 1.0), row("eager", 4.0)])
    assert goals.verdicts([row("fused", 1.0, launch="interpreter")]) == "no GPU was timed: no goal is judged"
    assert "note" in goals.table([]) and "text_pooling" in goals.table([row("fused", 1.0, "text_pooling")])
