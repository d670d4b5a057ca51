"""Fine-tune CosyVoice-class text-to-speech models and measure what came of it."""

__version__ = "0.1.0"
