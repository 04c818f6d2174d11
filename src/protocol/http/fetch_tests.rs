//! What players ask of HLS over HTTP, and what they are answered.
