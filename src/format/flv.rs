//! FLV in
