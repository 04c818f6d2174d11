//! The media of calls: receivers on shards, begun and ended as the platform wishes, and what becomes of them.
//!
//! A shard is asked in a task of its own, so nothing here waits. While there are receivers, all shards are asked every [`POLL`] what those
//! say of themselves. Not here: what a call is, and how a receiver works (`protocol/gb28181/receiver`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::receivers;
use super::super::shards::{Shards, Unanswered};
use super::host::Jobs;
use crate::config::Config;
use crate::protocol::gb28181::platform::{CallId, Input};
use crate::protocol::gb28181::receiver::Request;
use crate::session::{CloseReason, Reception, ReceptionState};
use crate::shard::message::{Command, SessionId};

/// How often the shards are asked.
const POLL: Duration = Duration::from_millis(300);
/// How long until a shard that has not answered is told again to close a receiver.
const CLOSE_AGAIN: Duration = Duration::from_secs(1);

/// What the receiver of a call is doing.
#[derive(Debug)]
enum Receiving {
    Opening,
    /// It is closed as soon as it is there.
    Unwanted,
    Open {
        session: SessionId,
        last: Reception,
    },
}

/// How a task has ended.
#[derive(Debug)]
pub enum Done {
    Opened { call: CallId, opened: Result<(SessionId, Reception), String> },
    Polled(Vec<Option<Vec<(SessionId, Reception)>>>),
    Closed,
}

#[derive(Debug)]
pub struct Media {
    shards: Shards,
    config: Arc<Config>,
    calls: HashMap<CallId, Receiving>,
    /// The shards have been asked and have not all answered.
    polling: bool,
    next_poll: Instant,
}

impl Media {
    pub fn new(shards: Shards, config: Arc<Config>) -> Self {
        Media { shards, config, calls: HashMap::new(), polling: false, next_poll: Instant::now() }
    }

    pub fn open(&mut self, call: CallId, request: Request, jobs: &mut Jobs) {
        self.calls.insert(call, Receiving::Opening);
        let (shards, config) = (self.shards.clone(), self.config.clone());
        jobs.start(async move {
            let opened = receivers::start(&shards, &config, &request).await.map_err(|error| error.to_string());
            Done::Opened { call, opened }
        });
    }

    pub fn close(&mut self, call: CallId, jobs: &mut Jobs) {
        match self.calls.remove(&call) {
            Some(Receiving::Opening | Receiving::Unwanted) => {
                self.calls.insert(call, Receiving::Unwanted);
            }
            Some(Receiving::Open { session, .. }) => self.close_session(session, jobs),
            None => {}
        }
    }

    fn close_session(&self, session: SessionId, jobs: &mut Jobs) {
        let shards = self.shards.clone();
        jobs.start(async move {
            let question = |done| Command::Close { session, reason: CloseReason::Kicked, done };
            while let Err(Unanswered::Silent(_)) = shards.ask_one(session.shard, question).await {
                tokio::time::sleep(CLOSE_AGAIN).await;
            }
            Done::Closed
        });
    }

    /// When [`Media::poll`] is to be called next.
    pub fn next_poll(&self) -> Option<Instant> {
        let has_open = self.calls.values().any(|call| matches!(call, Receiving::Open { .. }));
        (has_open && !self.polling).then_some(self.next_poll)
    }

    pub fn poll(&mut self, jobs: &mut Jobs) {
        self.polling = true;
        let shards = self.shards.clone();
        jobs.start(async move { Done::Polled(shards.ask(Command::Receptions).await) });
    }

    /// What the platform is to be told of it.
    pub fn done(&mut self, done: Done, jobs: &mut Jobs) -> Vec<Input<'static>> {
        match done {
            Done::Opened { call, opened } => self.opened(call, opened, jobs).into_iter().collect(),
            Done::Polled(answers) => {
                (self.polling, self.next_poll) = (false, Instant::now() + POLL);
                self.polled(&answers)
            }
            Done::Closed => Vec::new(),
        }
    }

    fn opened(
        &mut self,
        call: CallId,
        opened: Result<(SessionId, Reception), String>,
        jobs: &mut Jobs,
    ) -> Option<Input<'static>> {
        let was_wanted = matches!(self.calls.remove(&call)?, Receiving::Opening);
        let port = match opened {
            Ok((session, reception)) if was_wanted => {
                let port = reception.port.unwrap_or(0);
                self.calls.insert(call, Receiving::Open { session, last: reception });
                Ok(port)
            }
            Ok((session, _)) => {
                self.close_session(session, jobs);
                return None;
            }
            Err(why) => Err(why),
        };
        was_wanted.then_some(Input::ReceiverOpened { call, port })
    }

    fn polled(&mut self, answers: &[Option<Vec<(SessionId, Reception)>>]) -> Vec<Input<'static>> {
        let said: HashMap<SessionId, &Reception> =
            answers.iter().flatten().flatten().map(|(session, reception)| (*session, reception)).collect();
        let mut news = Vec::new();
        self.calls.retain(|call, receiving| {
            let Receiving::Open { session, last } = receiving else { return true };
            let has_answered = answers.get(usize::from(session.shard)).is_some_and(Option::is_some);
            let reception = match said.get(session) {
                Some(reception) => (*reception).clone(),
                None if has_answered => gone(last),
                None => return true,
            };
            if reception != *last {
                last.clone_from(&reception);
                news.push(Input::Reception { call: *call, reception });
            }
            last.state != ReceptionState::Ended
        });
        news
    }
}

/// Its shard does not know it any more: it has ended, and so many after it that nothing is known of how.
fn gone(last: &Reception) -> Reception {
    Reception { state: ReceptionState::Ended, detail: format!("{}; the receiver is gone", last.detail), ..last.clone() }
}
