"""What `neuron-path analyze` leaves: tables, figures, and a page that says what they show."""
