//! http
use super::Protocol;
pub const PROTOCOL: Protocol = Protocol { name: "http", listen: |config| &config.http.listen, session: |_context, _now| todo!() };
