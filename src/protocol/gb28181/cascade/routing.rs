//! Whose a message from the address of a platform above is: the cascade's, or of the platform that devices register with.
//!
//! Two platforms may register with each other, so the address alone does not tell. Answers belong to whoever has asked, by the branch of
//! RFC 3261 §17.1.3; requests in a call or behind another one to whoever has that, by Call-ID; questions and controls come from above,
//! notifications and answers from below; a new call is for the cascade where it names a channel that is shown. A platform that has never
//! come as a device is only above. Limit: [`RECENT_MAX`]. Not here: what is done about a message.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

use super::{Carrier, Cascade, Hop};
use crate::protocol::gb28181::manscdp::{self, Body, Notify};
use crate::protocol::gb28181::sip::headers::uri_user;
use crate::protocol::gb28181::sip::message::{Message, Method, Request};

/// Branches of ours, and Call-IDs of platforms above, that are remembered; the oldest is forgotten first.
pub const RECENT_MAX: usize = 8_192;
/// How far into a request of ours its branch stands at most.
const BRANCH_WITHIN_BYTES: usize = 1_024;

/// Texts that were seen a short while ago, as hashes, because they may be long.
#[derive(Debug, Default)]
pub(super) struct Recent {
    state: RandomState,
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Recent {
    pub fn add(&mut self, text: &str) {
        let hash = self.state.hash_one(text);
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub fn has(&self, text: &str) -> bool {
        self.known.contains(&self.state.hash_one(text))
    }
}

impl Cascade {
    /// Whether a message is the cascade's. It comes from where a platform above is, and, where it comes from another port, says its id.
    pub fn is_for(&mut self, hop: Hop, bytes: &[u8]) -> bool {
        let is_from_above = self.links.iter().any(|link| match hop.carrier {
            Carrier::Tcp(connection) => link.has_connection(connection),
            Carrier::Udp => {
                let is_there = hop.peer.ip().to_canonical() == link.target.address.ip().to_canonical();
                is_there && (hop.peer.port() == link.target.address.port() || says(bytes, &link.target.id))
            }
        });
        if !is_from_above {
            return false;
        }
        match Message::parse(bytes) {
            Ok(Message::Request(request)) => self.takes(hop, &request),
            Ok(Message::Response(response)) => {
                let branch = response.identity().and_then(|identity| identity.via.branch().map(str::to_owned));
                branch.is_some_and(|branch| self.branches.has(&branch))
            }
            Err(_) => true,
        }
    }

    fn takes(&mut self, hop: Hop, request: &Request) -> bool {
        let Some(at) = self.link_of(hop, request.from_user().unwrap_or_default()) else { return false };
        match request.method {
            Method::Register => {
                self.links[at].is_below = true;
                return false;
            }
            Method::Notify => return false,
            Method::Message => {
                let is_of_device = match manscdp::decode(&request.body) {
                    Ok((message, _)) => match message.body {
                        Body::Query(_) | Body::Control(_) | Body::Notify(Notify::Broadcast { .. }) => false,
                        Body::Notify(_) | Body::Response(_) => true,
                    },
                    Err(_) => false,
                };
                self.links[at].is_below |= is_of_device;
                return !is_of_device;
            }
            _ => {}
        }
        let Some(identity) = request.identity() else { return true };
        if self.call_ids.has(identity.call_id) || self.has_dialog(at, request) {
            return true;
        }
        match request.method {
            Method::Subscribe => true,
            Method::Invite if identity.to.tag().is_none() && self.names_shown(at, request) => true,
            _ => !self.links[at].is_below,
        }
    }

    fn names_shown(&self, at: usize, request: &Request) -> bool {
        let named = [uri_user(&request.uri), request.to_user().unwrap_or_default()];
        named.iter().any(|id| self.channels.find(&self.links[at].config, id).is_some())
    }

    /// The link that a request belongs to.
    pub(super) fn link_of(&self, hop: Hop, from: &str) -> Option<usize> {
        let is_there = |at: &usize| match hop.carrier {
            Carrier::Tcp(connection) => self.links[*at].has_connection(connection),
            Carrier::Udp => self.links[*at].target.address.ip().to_canonical() == hop.peer.ip().to_canonical(),
        };
        let mut all = (0..self.links.len()).filter(is_there);
        let is_at_port = |at: &usize| self.links[*at].target.address == hop.peer;
        all.clone().find(|at| self.links[*at].target.id == from).or_else(|| all.find(is_at_port))
    }
}

/// The branch of a request of ours; our Via is its first. `None`: it is an answer.
pub(super) fn branch_of(bytes: &[u8]) -> Option<&str> {
    let head = &bytes[..bytes.len().min(BRANCH_WITHIN_BYTES)];
    let text = head.utf8_chunks().next()?.valid();
    if text.starts_with("SIP/2.0 ") {
        return None;
    }
    text.split_once(";branch=")?.1.split(['\r', ';']).next()
}

/// Whether the From of a message has that user: a look, not a reading.
fn says(bytes: &[u8], id: &str) -> bool {
    let head = String::from_utf8_lossy(bytes);
    let mut lines = head.lines().take_while(|line| !line.is_empty());
    let from = lines.find(|line| ["from:", "f:"].iter().any(|name| line.to_ascii_lowercase().starts_with(name)));
    from.is_some_and(|line| line.contains(&format!("sip:{id}@")) || line.contains(&format!("sip:{id}>")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_is_remembered() {
        let mut recent = Recent::default();
        for at in 0..=RECENT_MAX {
            recent.add(&at.to_string());
            recent.add(&at.to_string());
        }
        assert_eq!((recent.has("0"), recent.has("1"), recent.has(&RECENT_MAX.to_string())), (false, true, true));
        assert_eq!(recent.order.len(), RECENT_MAX);
    }

    #[test]
    fn a_request_has_a_branch_and_an_answer_has_none_of_ours() {
        let via = "Via: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK77\r\n\r\n";
        assert_eq!(branch_of(format!("MESSAGE sip:1@x SIP/2.0\r\n{via}").as_bytes()), Some("z9hG4bK77"));
        assert_eq!(branch_of(format!("SIP/2.0 200 OK\r\n{via}").as_bytes()), None);
        assert_eq!(branch_of(b"\r\n"), None);
    }
}
