"""Vision-language segmentation with small trained parts, from a labelled folder to a device."""

__version__ = "0.1.0"
