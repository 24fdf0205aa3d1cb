//! Every form, and what is made of it.
