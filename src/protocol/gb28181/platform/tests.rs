//! The whole platform with scripted devices, in virtual time.
