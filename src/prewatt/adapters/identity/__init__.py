"""Who a person is, said by a company's own directory."""
