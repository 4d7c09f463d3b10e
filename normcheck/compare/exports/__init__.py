"""A model beside its export, and beside a file in which its norms were folded or merged."""
