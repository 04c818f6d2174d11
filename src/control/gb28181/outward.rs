//! What goes out to other platforms and to loudspeakers: senders on shards, begun and ended as the platform wishes, and what becomes of them;
//! and which streams there are to be sent.
//!
//! A shard is asked in a task of its own, so nothing here waits. While there are senders, all shards are asked every [`POLL`] what those say
//! of themselves; for the names of streams every [`LIST`], once the platform wants them. Not here: how a sender works
//! (`protocol/gb28181/sender`).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::senders;
use super::super::shards::{Shards, Unanswered};
use super::host::Jobs;
use crate::protocol::gb28181::platform::{CallId, Input};
use crate::protocol::gb28181::sender::Request;
use crate::session::{CloseReason, Sending, SendingState, StreamKey};
use crate::shard::message::{Command, SessionId};

/// How often the shards are asked for what senders do, and for the names of streams.
const POLL: Duration = Duration::from_millis(300);
const LIST: Duration = Duration::from_secs(1);
/// How long until a shard that has not answered is told again to close a sender.
const CLOSE_AGAIN: Duration = Duration::from_secs(1);

/// What the sender of a call is doing.
#[derive(Debug)]
enum Sender {
    Opening,
    /// It is closed as soon as it is there.
    Unwanted,
    Open {
        session: SessionId,
        last: Sending,
    },
}

/// How a task has ended.
#[derive(Debug)]
pub enum Done {
    Opened { call: CallId, opened: Result<(SessionId, Sending), String> },
    Polled(Vec<Option<Vec<(SessionId, Sending)>>>),
    Listed(Vec<Option<Vec<StreamKey>>>),
    Closed,
}

#[derive(Debug)]
pub struct Outward {
    shards: Shards,
    calls: HashMap<CallId, Sender>,
    /// The shards have been asked and have not all answered.
    polling: bool,
    next_poll: Instant,
    /// When the names are asked for next; `None`: they are not wanted, or are being asked for.
    next_list: Option<Instant>,
}

impl Outward {
    pub fn new(shards: Shards) -> Self {
        Outward { shards, calls: HashMap::new(), polling: false, next_poll: Instant::now(), next_list: None }
    }

    pub fn open(&mut self, call: CallId, request: Request, jobs: &mut Jobs) {
        self.calls.insert(call, Sender::Opening);
        let shards = self.shards.clone();
        jobs.start_outward(async move {
            let opened = senders::begin(&shards, &request).await.map_err(|error| error.to_string());
            Done::Opened { call, opened }
        });
    }

    pub fn close(&mut self, call: CallId, jobs: &mut Jobs) {
        match self.calls.remove(&call) {
            Some(Sender::Opening | Sender::Unwanted) => {
                self.calls.insert(call, Sender::Unwanted);
            }
            Some(Sender::Open { session, .. }) => self.close_session(session, jobs),
            None => {}
        }
    }

    fn close_session(&self, session: SessionId, jobs: &mut Jobs) {
        let shards = self.shards.clone();
        jobs.start_outward(async move {
            let question = |done| Command::Close { session, reason: CloseReason::Kicked, done };
            while let Err(Unanswered::Silent(_)) = shards.ask_one(session.shard, question).await {
                tokio::time::sleep(CLOSE_AGAIN).await;
            }
            Done::Closed
        });
    }

    /// The names of streams are wanted from now on.
    pub fn list(&mut self) {
        self.next_list.get_or_insert_with(Instant::now);
    }

    /// When [`Outward::poll`] is to be called next.
    pub fn next_poll(&self) -> Option<Instant> {
        let has_open = self.calls.values().any(|call| matches!(call, Sender::Open { .. }));
        let senders = (has_open && !self.polling).then_some(self.next_poll);
        [senders, self.next_list].into_iter().flatten().min()
    }

    pub fn poll(&mut self, now: Instant, jobs: &mut Jobs) {
        let shards = || self.shards.clone();
        if self.next_list.is_some_and(|due| now >= due) {
            self.next_list = None;
            let shards = shards();
            jobs.start_outward(async move { Done::Listed(shards.ask(Command::Names).await) });
        }
        let has_open = self.calls.values().any(|call| matches!(call, Sender::Open { .. }));
        if has_open && !self.polling && now >= self.next_poll {
            self.polling = true;
            let shards = self.shards.clone();
            jobs.start_outward(async move { Done::Polled(shards.ask(Command::Sendings).await) });
        }
    }

    /// What the platform is to be told of it.
    pub fn done(&mut self, done: Done, jobs: &mut Jobs) -> Vec<Input<'static>> {
        match done {
            Done::Opened { call, opened } => self.opened(call, opened, jobs).into_iter().collect(),
            Done::Polled(answers) => {
                (self.polling, self.next_poll) = (false, Instant::now() + POLL);
                self.polled(&answers)
            }
            Done::Listed(answers) => {
                self.next_list = Some(Instant::now() + LIST);
                // Without the names of all shards it cannot be said which are gone.
                let all: Option<Vec<Vec<StreamKey>>> = answers.into_iter().collect();
                all.map(|all| Input::Streams(all.concat())).into_iter().collect()
            }
            Done::Closed => Vec::new(),
        }
    }

    fn opened(&mut self, call: CallId, opened: Result<(SessionId, Sending), String>, jobs: &mut Jobs) -> Option<Input<'static>> {
        let was_wanted = matches!(self.calls.remove(&call)?, Sender::Opening);
        let port = match opened {
            Ok((session, sending)) if was_wanted => {
                let port = sending.port.unwrap_or(0);
                self.calls.insert(call, Sender::Open { session, last: sending });
                Ok(port)
            }
            Ok((session, _)) => {
                self.close_session(session, jobs);
                return None;
            }
            Err(why) => Err(why),
        };
        was_wanted.then_some(Input::SenderOpened { call, port })
    }

    fn polled(&mut self, answers: &[Option<Vec<(SessionId, Sending)>>]) -> Vec<Input<'static>> {
        let said: HashMap<SessionId, &Sending> =
            answers.iter().flatten().flatten().map(|(session, sending)| (*session, sending)).collect();
        let mut news = Vec::new();
        self.calls.retain(|call, sender| {
            let Sender::Open { session, last } = sender else { return true };
            let has_answered = answers.get(usize::from(session.shard)).is_some_and(Option::is_some);
            let sending = match said.get(session) {
                Some(sending) => (*sending).clone(),
                None if has_answered => gone(last),
                None => return true,
            };
            if sending != *last {
                last.clone_from(&sending);
                news.push(Input::Sending { call: *call, sending });
            }
            last.state != SendingState::Ended
        });
        news
    }
}

/// Its shard does not know it any more: it has ended, and so many after it that nothing is known of how.
fn gone(last: &Sending) -> Sending {
    Sending { state: SendingState::Ended, detail: format!("{}; the sender is gone", last.detail), ..last.clone() }
}
