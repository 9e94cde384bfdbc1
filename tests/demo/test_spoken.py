import pytest

from vlseg.deploy.errors import UserError

gr = pytest.importorskip("gradio")

from vlseg.demo.spoken import spoken  # noqa: E402 - needs gradio


def test_a_users_mistake_becomes_a_message():
    with pytest.raises(gr.Error) as caught:
        spoken(lambda: (_ for _ in ()).throw(UserError("the file <b>x</b> is empty")))()
    assert caught.value.message == "the file &lt;b&gt;x&lt;/b&gt; is empty"
    assert not caught.value.print_exception


def test_what_nobody_expected_names_no_path_and_is_in_the_log(capsys):
    def broken():
        raise KeyError("/secret/place")

    with pytest.raises(gr.Error) as caught:
        spoken(broken)()
    assert "KeyError" in caught.value.message and "/secret" not in caught.value.message
    assert "/secret/place" in capsys.readouterr().err


def test_a_generator_speaks_too_and_hands_on_what_it_made():
    def two():
        yield 1
        raise UserError("then it ended")

    steps = spoken(two)()
    assert next(steps) == 1
    with pytest.raises(gr.Error, match="then it ended"):
        next(steps)
