//! One to many: a stream, its fan-outs and the rings that viewers read. No protocol's name and no socket in here.

pub mod directory;
pub mod fanout;
pub mod joined;
pub mod outgoing;
pub mod ring;
pub mod stats;
pub mod stream;

pub use directory::{Claim, Directory};
pub use fanout::Fanout;
pub use outgoing::{Outgoing, Pump};
pub use ring::{Cursor, Ring};
pub use stream::Stream;
