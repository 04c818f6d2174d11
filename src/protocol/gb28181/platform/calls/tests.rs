//! Calls with a scripted device, in virtual time.
