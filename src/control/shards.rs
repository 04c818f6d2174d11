//! Questions to the shards: one command to each, one second for all the answers.
//!
//! A shard that is busy or gone is a `None` among the answers and costs nobody else's. Commands and answers are owned by whoever
//! holds them; nothing is shared with a shard. Not here: what the answers mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use flume::Sender;
use tokio::time::{Instant, timeout_at};

use crate::shard::message::{Command, ShardId};

/// How long a question waits for its answers.
pub const ANSWER_MS_MAX: u64 = 1_000;

/// The command channels, indexed by [`ShardId`].
#[derive(Clone, Debug)]
pub struct Shards {
    commands: Arc<[Sender<Command>]>,
    /// Counts what may begin on any of them.
    turns: Arc<AtomicU16>,
}

impl Shards {
    pub fn new(commands: Vec<Sender<Command>>) -> Self {
        Shards { commands: commands.into(), turns: Arc::default() }
    }

    pub fn count(&self) -> usize {
        self.commands.len()
    }

    /// The next one in turn, for what may begin on any.
    pub fn next(&self) -> ShardId {
        self.turns.fetch_add(1, Ordering::Relaxed) % (self.count() as ShardId).max(1)
    }

    /// Asks all shards at once; `None` for each that has not answered within [`ANSWER_MS_MAX`].
    pub async fn ask<T>(&self, question: impl Fn(Sender<T>) -> Command) -> Vec<Option<T>> {
        let deadline = Instant::now() + Duration::from_millis(ANSWER_MS_MAX);
        let pending: Vec<_> = self.commands.iter().map(|shard| send(shard, &question)).collect();
        let mut answers = Vec::with_capacity(pending.len());
        for answer in pending {
            // After the deadline this still takes an answer that is there.
            answers.push(timeout_at(deadline, answer.recv_async()).await.ok().and_then(Result::ok));
        }
        answers
    }

    /// Asks one shard.
    pub async fn ask_one<T>(&self, shard: ShardId, question: impl FnOnce(Sender<T>) -> Command) -> Result<T, Unanswered> {
        let commands = self.commands.get(usize::from(shard)).ok_or(Unanswered::NoShard)?;
        let deadline = Instant::now() + Duration::from_millis(ANSWER_MS_MAX);
        match timeout_at(deadline, send(commands, question).recv_async()).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(Unanswered::Silent(shard)),
        }
    }

    /// Tells all shards to end. One that is gone has ended already; one whose queue is full stands still and is not waited for.
    pub fn drain(&self) {
        for shard in self.commands.iter() {
            let _ = shard.try_send(Command::Drain);
        }
    }
}

/// Why one shard gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    NoShard,
    Silent(ShardId),
}

/// Never waits: a full command channel is a shard that does not answer. The reply's sender is gone then, so waiting ends at once.
fn send<T>(shard: &Sender<Command>, question: impl FnOnce(Sender<T>) -> Command) -> flume::Receiver<T> {
    let (reply, answer) = flume::bounded(1);
    let _ = shard.try_send(question(reply));
    answer
}

/// The shards whose answer is missing.
pub fn silent<T>(answers: &[Option<T>]) -> Vec<ShardId> {
    (0..).zip(answers).filter(|(_, answer)| answer.is_none()).map(|(shard, _)| shard).collect()
}
