//! rtmp
use super::Protocol;
pub const PROTOCOL: Protocol = Protocol { name: "rtmp", listen: |config| &config.rtmp.listen, session: |_context, _now| todo!() };
