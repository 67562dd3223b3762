"""What the user wrote, frozen and checked: hardware, topology, model, layout, scenario."""
