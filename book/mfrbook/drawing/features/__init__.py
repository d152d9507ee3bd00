"""Features to look at: what describes one, and the page that shows them."""
