"""The GLiClass network: its settings, its encoder and its scoring head."""
