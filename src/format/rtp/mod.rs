//! RTP
