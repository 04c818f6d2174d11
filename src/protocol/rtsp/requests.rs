//! One request → its answer: what all methods share, and the methods that concern neither publishing nor playing.
//!
//! RFC 2326 §10 (methods), §12.17 (`CSeq`), §12.32 (`Require`), §12.37 (`Session`), appendix C.1 (aggregate control). Checked in this
//! order: version, sequence number, required options, method, session, then what the method needs.
//!
//! Limits: [`AGENT_CHARS_MAX`]. Not here: `ANNOUNCE` and `RECORD` (`publish.rs`), `DESCRIBE`, `PLAY` and `PAUSE` (`play.rs`).

use super::message::{Request, Response, Status, Version};
use super::session::{Role, RtspSession, Wait, Whose};
use super::transport::{self, Kind, Offer, PortPair};
use crate::media::Stamp;
use crate::protocol::common::auth::{Right, Verdict};
use crate::protocol::common::random::SplitMix64;
use crate::session::{Output, PairId, StreamKey};

const METHODS: &str = "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, GET_PARAMETER, SET_PARAMETER";

/// How much of a client's name is kept.
const AGENT_CHARS_MAX: usize = 128;

/// What becomes of a request that is not refused.
pub(super) enum Answer {
    Reply(Response),
    Wait(Wait),
}

impl RtspSession {
    pub(super) fn request(&mut self, now: Stamp, request: &Request, out: &mut Vec<Output>) {
        self.tell_agent(request, out);
        let sequence = request.header("CSeq").unwrap_or_default();
        if request.version != Version::Rtsp1 {
            return self.send(&Status::VersionNotSupported.into(), Some(sequence).filter(|text| !text.is_empty()), out);
        }
        if sequence.is_empty() || !sequence.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.send(&Status::BadRequest.into(), Some(sequence).filter(|text| !text.is_empty()), out);
        }
        let answer = self.answer(now, request, out);
        self.carry_out(sequence.to_owned(), answer, out);
    }

    fn tell_agent(&mut self, request: &Request, out: &mut Vec<Output>) {
        if let Some(agent) = request.header("User-Agent").filter(|_| !self.agent_told) {
            self.agent_told = true;
            out.push(Output::Agent(agent.chars().take(AGENT_CHARS_MAX).collect()));
        }
    }

    fn answer(&mut self, now: Stamp, request: &Request, out: &mut Vec<Output>) -> Result<Answer, Response> {
        if let Some(options) = request.header("Require").or(request.header("Proxy-Require")) {
            return Err(Response::from(Status::OptionNotSupported).header("Unsupported", options));
        }
        let method = request.method.as_str();
        match method {
            // What only servers send.
            "REDIRECT" => return Err(Response::from(Status::MethodNotAllowed).header("Allow", METHODS)),
            "OPTIONS" | "DESCRIBE" | "ANNOUNCE" => {}
            _ if METHODS.split(", ").any(|known| known == method) => self.check_session(request)?,
            _ => return Err(Status::NotImplemented.into()),
        }
        match method {
            "DESCRIBE" => self.describe(now, request, out),
            "ANNOUNCE" => self.announce(now, request, out),
            "SETUP" if matches!(self.role, Role::Publish(_)) => self.setup_section(now, request, out),
            "SETUP" => self.setup_track(now, request, out),
            "PLAY" => self.play(now, request, out),
            "PAUSE" if matches!(self.role, Role::Publish(_)) => self.pause_publisher(request),
            "PAUSE" => self.pause_viewer(request, out),
            "RECORD" => self.record(now, request, out),
            "TEARDOWN" => self.teardown(request, out),
            // Also when it names parameters: clients keep the session alive with it, and there are none.
            "GET_PARAMETER" | "SET_PARAMETER" => Ok(Answer::Reply(Response::ok())),
            _ => Ok(Answer::Reply(Response::ok().header("Public", METHODS))),
        }
    }

    /// A client may leave the id out: the connection says enough.
    fn check_session(&self, request: &Request) -> Result<(), Response> {
        let Some(header) = request.header("Session") else { return Ok(()) };
        let id = header.split(';').next().unwrap_or_default().trim();
        if self.id.as_deref() == Some(id) { Ok(()) } else { Err(Status::SessionNotFound.into()) }
    }

    /// Whether the client may do that; asked again only for another stream or another right.
    pub(super) fn authorize(
        &mut self,
        now: Stamp,
        request: &Request,
        right: Right,
        key: &StreamKey,
        out: &mut Vec<Output>,
    ) -> Result<(), Response> {
        if self.granted.as_ref().is_some_and(|(known, granted)| known == key && *granted == right) {
            return Ok(());
        }
        let address = self.peer.ip();
        let authorization = request.header("Authorization");
        let verdict = self.authority.check_header(now, address, authorization, &request.method, right, key);
        // Who has said nothing is only asked. A connection that goes on trying is told of once.
        if authorization.is_some() && !self.refusal_told {
            let note = verdict.note(true, right, key);
            self.refusal_told = note.is_some();
            out.extend(note);
        }
        match verdict {
            Verdict::Granted => {
                self.granted = Some((key.clone(), right));
                Ok(())
            }
            Verdict::Denied { stale } => {
                let challenges = self.authority.challenges(now, address, stale);
                let response = Response::from(Status::Unauthorized);
                let add = |response: Response, challenge: &String| response.header("WWW-Authenticate", challenge);
                Err(challenges.iter().fold(response, add))
            }
            Verdict::Forbidden => Err(Status::Forbidden.into()),
            Verdict::Throttled => Err(Response::from(Status::ServiceUnavailable).last()),
        }
    }

    fn teardown(&mut self, request: &Request, out: &mut Vec<Output>) -> Result<Answer, Response> {
        match self.role {
            Role::None => return Err(Status::SessionNotFound.into()),
            Role::Publish(_) => self.unpublish(request, out)?,
            Role::Play(_) => {
                if !self.leave(request, out)? {
                    return Ok(Answer::Reply(Response::ok()));
                }
            }
        }
        Ok(Answer::Reply(Response::ok().last()))
    }

    /// The shard has opened ports for a `SETUP`, or has none left.
    pub(super) fn pair_opened(
        &mut self,
        pair: PairId,
        port: Option<u16>,
        offer: &Offer,
        client: PortPair,
        whose: Whose,
    ) -> Result<Answer, Response> {
        let server = port.and_then(|rtp| Some(PortPair { rtp, rtcp: rtp.checked_add(1)? }));
        let server = server.ok_or(Status::NotEnoughBandwidth)?;
        match (&mut self.role, whose) {
            (Role::Publish(publisher), Whose::Section(section)) => publisher.set_pair(section, pair, self.peer.ip(), client),
            (Role::Play(player), Whose::Track(kind)) => player.set_pair(kind, pair, self.peer.ip(), client),
            _ => return Err(Status::NotValidInThisState.into()),
        }
        Ok(Answer::Reply(self.set_up(&offer.write_unicast(client, server))))
    }

    /// The answer to a `SETUP`; makes the session's id if there is none.
    pub(super) fn set_up(&mut self, transport: &str) -> Response {
        if self.id.is_none() {
            self.ids += 1;
            self.id = Some(format!("{:016X}", scramble(self.seed ^ self.ids)));
        }
        Response::ok().header("Transport", transport)
    }

    /// The only transport that is served here, if it is one: over TLS media stays on the connection, else it would go in the clear.
    pub(super) fn only_transport(&self) -> Option<Kind> {
        self.encrypted.then_some(Kind::Tcp)
    }

    /// The first transport in the client's order that the server has; `kind`: that of the tracks that are set up.
    pub(super) fn choose(request: &Request, kind: Option<Kind>) -> Option<Offer> {
        let served = |offer: &Offer| kind.is_none_or(|kind| offer.lower.kind() == kind);
        transport::parse(request.header("Transport").unwrap_or_default()).find(served)
    }

    /// Asks for ports under a number that is not in use.
    pub(super) fn open_pair(&mut self, used: &[PairId], out: &mut Vec<Output>) -> PairId {
        while used.contains(&self.next_pair) {
            self.next_pair = self.next_pair.wrapping_add(1);
        }
        let pair = self.next_pair;
        self.next_pair = pair.wrapping_add(1);
        out.push(Output::OpenPair(pair));
        pair
    }
}

/// A number that looks random, of its own for every seed.
pub(super) const fn scramble(seed: u64) -> u64 {
    SplitMix64::new(seed).next()
}
