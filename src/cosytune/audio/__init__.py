"""Recordings in and out, and every feature that is computed from them; the only room that computes features.

Import the module you need (`cosytune.audio.files`, `.mel`, ...): `files`, `resample` and `pitch` stay free of torch.
"""
