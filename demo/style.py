"""How the page looks: system fonts alone, so that nothing is fetched; light and dark follow the system."""

from gradio.themes import Base

FONT = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

# the mask leaves as much room below as the picture has buttons there, so that the two stand at one height;
# a box of one line sends the prompt on Enter, yet a sentence may need two
CSS = """
.gradio-container { max-width: 1040px !important; margin: 0 auto !important; }
#title h1 { font-size: 1.6rem; font-weight: 650; letter-spacing: -0.02em; margin: 0.4rem 0 0; }
#title p { color: var(--body-text-color-subdued); margin: 0.2rem 0 0; max-width: 80ch; }
#model { align-items: center; margin-top: -0.4rem; }
#model > * { flex: 1 1 18rem; }
#model .html-container { padding: 0; }
#mask .image-container { box-sizing: border-box; padding-bottom: 40px; }
.facts, #note p { color: var(--body-text-color-subdued); font-size: 0.82rem; }
.facts { margin: 0; overflow-wrap: anywhere; }
.reading b { display: block; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.reading span { color: var(--body-text-color-subdued); font-size: 0.85rem; }
.stages { display: grid; grid-template-columns: max-content 1fr max-content; gap: 0.3rem 0.8rem; margin: 0.8rem 0 0; }
.stages > * { margin: 0; font-size: 0.85rem; line-height: 1.3; }
.stages dd + dd { text-align: right; font-variant-numeric: tabular-nums; }
.stages dd { align-self: center; }
.stages i { display: block; height: 0.5rem; min-width: 2px; border-radius: 3px; background: var(--color-accent); }
#prompt textarea { min-height: 3.9rem !important; }
#area { flex: 1 1 9rem; }
#time { flex: 2 1 16rem; }
"""


def theme() -> Base:
    """Return a quiet theme on gradio's plainest one."""
    return Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=FONT,
        font_mono=MONO,
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_border_width="1px",
        block_shadow="none",
    )
