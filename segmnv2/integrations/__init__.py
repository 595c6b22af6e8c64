"""This library's parts in the forms that other libraries take."""
