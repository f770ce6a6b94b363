"""Vision-language models of `transformers` whose words are actions, as a file beside their checkpoint declares."""
