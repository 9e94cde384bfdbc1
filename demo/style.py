"""How the page looks: system fonts alone, so that nothing is fetched; light and dark follow the system."""

from pathlib import Path

from gradio.themes import Base

FONT = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
CSS = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def theme() -> Base:
    """Return a quiet theme on gradio's plainest one."""
    return Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        spacing_size="sm",
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
