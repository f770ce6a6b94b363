"""The native vision-language-action model, built from transformers parts."""
