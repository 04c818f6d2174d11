//! The media of calls: receivers and senders on shards, begun and ended as the platform wishes, and what becomes of them.
//!
//! A shard is asked in a task of its own, so nothing here waits. While there are any, all shards are asked every [`POLL`] what those say of
//! themselves; once a second which streams there are, if the platform wants to know. Not here: what a call is, and how media is received
//! (`protocol/gb28181/receiver`) and sent (`protocol/gb28181/sender`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::shards::{Shards, Unanswered};
use super::super::{receivers, senders};
use super::host::Jobs;
use crate::config::Config;
use crate::protocol::gb28181::platform::{CallId, Input};
use crate::protocol::gb28181::{receiver, sender};
use crate::session::{CloseReason, ExpectedSource, Reception, ReceptionEnd, ReceptionState, Sending, SendingState, StreamKey};
use crate::shard::message::{Command, SessionId};

/// How often the shards are asked about receivers and senders.
const POLL: Duration = Duration::from_millis(300);
/// How often they are asked for the names of streams.
const LIST: Duration = Duration::from_secs(1);
/// How long until a shard that has not answered is told again to close one.
const CLOSE_AGAIN: Duration = Duration::from_secs(1);

/// What a shard said of each session of a kind; `None`: it has not answered.
type Answers<S> = Vec<Option<Vec<(SessionId, S)>>>;

/// How a task has ended.
#[derive(Debug)]
pub enum Done {
    Receives {
        call: CallId,
        opened: Result<(SessionId, Reception), String>,
    },
    Sends {
        call: CallId,
        opened: Result<(SessionId, Sending), String>,
    },
    Polled(Answers<Reception>, Answers<Sending>),
    /// By shard; `None`: it has not answered.
    Listed(Vec<Option<Vec<StreamKey>>>),
    /// A session has been told something.
    Told,
}

/// What a session says of itself.
trait Said: Clone + PartialEq {
    fn port(&self) -> u16;
    fn is_over(&self) -> bool;
    /// Its shard does not know it any more: it has ended, and so many after it that nothing is known of how.
    fn gone(&self) -> Self;
}

impl Said for Reception {
    fn port(&self) -> u16 {
        self.port.unwrap_or(0)
    }

    fn is_over(&self) -> bool {
        self.state == ReceptionState::Ended
    }

    fn gone(&self) -> Self {
        let (state, end) = (ReceptionState::Ended, Some(ReceptionEnd::Failed));
        Reception { state, end, detail: format!("{}; the receiver is gone", self.detail), ..self.clone() }
    }
}

impl Said for Sending {
    fn port(&self) -> u16 {
        self.port.unwrap_or(0)
    }

    fn is_over(&self) -> bool {
        self.state == SendingState::Ended
    }

    fn gone(&self) -> Self {
        Sending { state: SendingState::Ended, detail: format!("{}; the sender is gone", self.detail), ..self.clone() }
    }
}

/// What the session of a call is doing.
#[derive(Debug)]
enum Leg<S> {
    Opening,
    /// It is closed as soon as it is there.
    Unwanted,
    Open {
        session: SessionId,
        last: S,
        /// The shards have been asked since it was opened. An answer to a question before does not know of it.
        asked: bool,
    },
}

/// The receivers, or the senders.
#[derive(Debug)]
struct Legs<S>(HashMap<CallId, Leg<S>>);

impl<S: Said> Legs<S> {
    fn has_open(&self) -> bool {
        self.0.values().any(|leg| matches!(leg, Leg::Open { .. }))
    }

    /// The shards are about to be asked.
    fn ask(&mut self) {
        for leg in self.0.values_mut() {
            if let Leg::Open { asked, .. } = leg {
                *asked = true;
            }
        }
    }

    /// Which session is to be closed now.
    fn close(&mut self, call: CallId) -> Option<SessionId> {
        match self.0.remove(&call)? {
            Leg::Opening | Leg::Unwanted => {
                self.0.insert(call, Leg::Unwanted);
                None
            }
            Leg::Open { session, .. } => Some(session),
        }
    }

    /// What the platform is told, and which session is to be closed because it is not wanted any more.
    fn opened(
        &mut self,
        call: CallId,
        opened: Result<(SessionId, S), String>,
    ) -> (Option<Result<u16, String>>, Option<SessionId>) {
        let is_wanted = matches!(self.0.remove(&call), Some(Leg::Opening));
        match opened {
            Ok((session, last)) if is_wanted => {
                let port = last.port();
                self.0.insert(call, Leg::Open { session, last, asked: false });
                (Some(Ok(port)), None)
            }
            Ok((session, _)) => (None, Some(session)),
            Err(why) => (is_wanted.then_some(Err(why)), None),
        }
    }

    /// What has changed. Those that are over are forgotten.
    fn polled(&mut self, answers: &Answers<S>) -> Vec<(CallId, S)> {
        let said: HashMap<SessionId, &S> = answers.iter().flatten().flatten().map(|(session, said)| (*session, said)).collect();
        let mut news = Vec::new();
        self.0.retain(|call, leg| {
            let Leg::Open { session, last, asked } = leg else { return true };
            let has_answered = answers.get(usize::from(session.shard)).is_some_and(Option::is_some);
            let now = match said.get(session) {
                Some(said) => (*said).clone(),
                None if has_answered && *asked => last.gone(),
                None => return true,
            };
            // What was over when it was opened has not been told yet.
            if now != *last || now.is_over() {
                last.clone_from(&now);
                news.push((*call, now));
            }
            !last.is_over()
        });
        news
    }
}

#[derive(Debug)]
pub struct Media {
    shards: Shards,
    config: Arc<Config>,
    receivers: Legs<Reception>,
    senders: Legs<Sending>,
    /// The shards have been asked and have not all answered.
    polling: bool,
    next_poll: Instant,
    /// When the shards are asked for names; `None`: nobody wants to know, or they have been asked.
    next_list: Option<Instant>,
    /// What each shard has answered last: one that does not answer has not lost its streams for that.
    names: Vec<Vec<StreamKey>>,
}

impl Media {
    pub fn new(shards: Shards, config: Arc<Config>) -> Self {
        Media {
            shards,
            config,
            receivers: Legs(HashMap::new()),
            senders: Legs(HashMap::new()),
            polling: false,
            next_poll: Instant::now(),
            next_list: None,
            names: Vec::new(),
        }
    }

    pub fn open_receiver(&mut self, call: CallId, request: receiver::Request, jobs: &mut Jobs) {
        self.receivers.0.insert(call, Leg::Opening);
        let (shards, config) = (self.shards.clone(), self.config.clone());
        jobs.start(async move {
            let opened = receivers::start(&shards, &config, &request).await.map_err(|error| error.to_string());
            Done::Receives { call, opened }
        });
    }

    pub fn open_sender(&mut self, call: CallId, request: sender::Request, jobs: &mut Jobs) {
        self.senders.0.insert(call, Leg::Opening);
        let shards = self.shards.clone();
        jobs.start(async move {
            let opened = senders::begin(&shards, &request).await.map_err(|error| error.to_string());
            Done::Sends { call, opened }
        });
    }

    /// Tells a receiver whose packets it is to take. One that is not there needs not know.
    pub fn expect(&self, call: CallId, source: ExpectedSource, jobs: &mut Jobs) {
        let Some(&Leg::Open { session, .. }) = self.receivers.0.get(&call) else { return };
        let shards = self.shards.clone();
        jobs.start(async move {
            let question = |done| Command::Expect { session, source, done };
            if let Err(Unanswered::Silent(shard)) = shards.ask_one(session.shard, question).await {
                log::warn!("shard {shard} does not answer: the receiver {session} keeps to the source that it knows");
            }
            Done::Told
        });
    }

    pub fn close_receiver(&mut self, call: CallId, jobs: &mut Jobs) {
        let session = self.receivers.close(call);
        self.close(session, jobs);
    }

    pub fn close_sender(&mut self, call: CallId, jobs: &mut Jobs) {
        let session = self.senders.close(call);
        self.close(session, jobs);
    }

    fn close(&self, session: Option<SessionId>, jobs: &mut Jobs) {
        let Some(session) = session else { return };
        let shards = self.shards.clone();
        jobs.start(async move {
            let question = |done| Command::Close { session, reason: CloseReason::Kicked, done };
            while let Err(Unanswered::Silent(_)) = shards.ask_one(session.shard, question).await {
                tokio::time::sleep(CLOSE_AGAIN).await;
            }
            Done::Told
        });
    }

    /// Tells from now on which streams there are.
    pub fn list(&mut self) {
        self.next_list.get_or_insert_with(Instant::now);
    }

    /// When [`Media::ask`] is to be called next.
    pub fn next_ask(&self) -> Option<Instant> {
        let has_open = self.receivers.has_open() || self.senders.has_open();
        let poll = (has_open && !self.polling).then_some(self.next_poll);
        [poll, self.next_list].into_iter().flatten().min()
    }

    /// Asks the shards what is due.
    pub fn ask(&mut self, now: Instant, jobs: &mut Jobs) {
        let (has_receivers, has_senders) = (self.receivers.has_open(), self.senders.has_open());
        if (has_receivers || has_senders) && !self.polling && now >= self.next_poll {
            self.polling = true;
            self.receivers.ask();
            self.senders.ask();
            let shards = self.shards.clone();
            jobs.start(async move {
                let receptions = if has_receivers { shards.ask(Command::Receptions).await } else { Vec::new() };
                let sendings = if has_senders { shards.ask(Command::Sendings).await } else { Vec::new() };
                Done::Polled(receptions, sendings)
            });
        }
        if self.next_list.is_some_and(|due| now >= due) {
            self.next_list = None;
            let shards = self.shards.clone();
            jobs.start(async move { Done::Listed(shards.ask(Command::Names).await) });
        }
    }

    /// What the platform is to be told of it.
    pub fn done(&mut self, done: Done, jobs: &mut Jobs) -> Vec<Input<'static>> {
        match done {
            Done::Receives { call, opened } => {
                let (port, unwanted) = self.receivers.opened(call, opened);
                self.close(unwanted, jobs);
                port.map(|port| Input::ReceiverOpened { call, port }).into_iter().collect()
            }
            Done::Sends { call, opened } => {
                let (port, unwanted) = self.senders.opened(call, opened);
                self.close(unwanted, jobs);
                port.map(|port| Input::SenderOpened { call, port }).into_iter().collect()
            }
            Done::Polled(receptions, sendings) => {
                (self.polling, self.next_poll) = (false, Instant::now() + POLL);
                let receptions = self.receivers.polled(&receptions).into_iter();
                let sendings = self.senders.polled(&sendings).into_iter();
                let receptions = receptions.map(|(call, reception)| Input::Reception { call, reception });
                receptions.chain(sendings.map(|(call, sending)| Input::Sending { call, sending })).collect()
            }
            Done::Listed(answers) => {
                self.next_list = Some(Instant::now() + LIST);
                self.names.resize(answers.len(), Vec::new());
                for (names, answer) in self.names.iter_mut().zip(answers) {
                    *names = answer.unwrap_or_else(|| std::mem::take(names));
                }
                vec![Input::Streams(self.names.concat())]
            }
            Done::Told => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(state: SendingState) -> Sending {
        Sending {
            key: StreamKey::parse("live/a").unwrap(),
            transport: "udp",
            payload: "ps",
            port: Some(4_000),
            to: None,
            ssrc: 7,
            state,
            detail: "words".to_owned(),
            tracks: Vec::new(),
            left_out: Vec::new(),
            bytes: 0,
            refusal: None,
        }
    }

    const CALL: CallId = CallId(1);
    const SESSION: SessionId = SessionId { shard: 0, number: 9 };

    /// A leg that has just opened so.
    fn opened(state: SendingState) -> Legs<Sending> {
        let mut legs = Legs(HashMap::from([(CALL, Leg::Opening)]));
        assert_eq!(legs.opened(CALL, Ok((SESSION, sending(state)))), (Some(Ok(4_000)), None));
        legs
    }

    #[test]
    fn an_answer_from_before_it_was_opened_says_nothing_of_it() {
        let mut legs = opened(SendingState::Waiting);
        let none: Answers<Sending> = vec![Some(Vec::new())];
        assert_eq!(legs.polled(&none), []);
        legs.ask();
        assert_eq!(legs.polled(&vec![None]), [], "the shard has not answered");
        let gone = legs.polled(&none);
        assert_eq!(
            (gone.len(), gone[0].1.state, gone[0].1.detail.as_str()),
            (1, SendingState::Ended, "words; the sender is gone")
        );
        assert!(!legs.has_open());
    }

    #[test]
    fn what_was_over_when_it_was_opened_is_told_once() {
        let mut legs = opened(SendingState::Ended);
        legs.ask();
        let answers: Answers<Sending> = vec![Some(vec![(SESSION, sending(SendingState::Ended))])];
        assert_eq!(legs.polled(&answers), [(CALL, sending(SendingState::Ended))]);
        assert_eq!(legs.polled(&answers), []);
    }
}
