"""Models in the forms of other programs: diffusers, ONNX. Imported only when asked for."""
