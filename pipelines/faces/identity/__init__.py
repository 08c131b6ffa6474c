"""Who a face belongs to: the choice of one of several people, and following that person through a film."""
