"""Text in, one packed token folder out: sources, filters, tokenizer, packing, held-out split. No torch."""
