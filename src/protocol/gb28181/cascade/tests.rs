//! The cascade against a platform above, in virtual time.
