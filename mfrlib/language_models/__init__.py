"""Language models, their activations, and SAEs put inside them."""
