//! The wait: one epoll instance with one timer. Level-triggered, so that one read per wake-up and socket is enough; edge-triggered for
//! the connections of viewers, of which there are thousands, and of which the kernel would look at each a second time.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Times are nanoseconds everywhere.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Names who waits for a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Timer,
    /// `socket`: 0 is the connection, those behind it are for datagrams.
    Publisher {
        at: usize,
        socket: usize,
    },
    Viewer {
        at: usize,
        socket: usize,
    },
    /// A simulated device: 0 is for SIP, those behind it are for media.
    Device {
        at: usize,
        socket: usize,
    },
    /// This process is asked to end.
    Signal,
    /// The standard input, or whatever else there is one of.
    Input,
    /// A viewer that comes and goes.
    Visitor {
        at: usize,
        socket: usize,
    },
    /// A connection over the impaired link: the viewer's side, the server's side.
    Relay {
        at: usize,
        socket: usize,
    },
}

/// Sockets that one publisher, viewer or device may have.
const SOCKETS_MAX: usize = 64;
/// The low bits of a token say what it names.
const KIND_BITS: u32 = 3;

impl Token {
    fn to_bits(self) -> u64 {
        let (at, socket, kind) = match self {
            Token::Timer => (0, 0, 0),
            Token::Publisher { at, socket } => (at, socket, 1),
            Token::Viewer { at, socket } => (at, socket, 2),
            Token::Device { at, socket } => (at, socket, 3),
            Token::Signal => (0, 0, 4),
            Token::Input => (0, 0, 5),
            Token::Visitor { at, socket } => (at, socket, 6),
            Token::Relay { at, socket } => (at, socket, 7),
        };
        ((at * SOCKETS_MAX + socket) as u64) << KIND_BITS | kind
    }

    fn from_bits(bits: u64) -> Token {
        let number = (bits >> KIND_BITS) as usize;
        let (at, socket) = (number / SOCKETS_MAX, number % SOCKETS_MAX);
        match bits & ((1 << KIND_BITS) - 1) {
            1 => Token::Publisher { at, socket },
            2 => Token::Viewer { at, socket },
            3 => Token::Device { at, socket },
            4 => Token::Signal,
            5 => Token::Input,
            6 => Token::Visitor { at, socket },
            7 => Token::Relay { at, socket },
            _ => Token::Timer,
        }
    }
}

/// What a descriptor is ready for. An error or hang-up counts as readable: the read says what it is.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub token: Token,
    pub readable: bool,
    pub writable: bool,
    /// The peer has said that nothing more comes, where that is asked for.
    pub ended: bool,
}

pub struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// Descriptors reported per wait.
const EVENTS_MAX: usize = 1024;

impl Poll {
    pub fn new() -> io::Result<Poll> {
        // SAFETY: both calls take no pointers; the results are checked before they are owned.
        let (epoll, timer) = unsafe {
            let epoll = owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            (epoll, owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK))?)
        };
        let poll = Poll { epoll, timer, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] };
        poll.add(poll.timer.as_raw_fd(), Token::Timer, false)?;
        Ok(poll)
    }

    /// Watches a descriptor for input, and for room for output if `writable`.
    pub fn add(&self, fd: RawFd, token: Token, writable: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, writable)
    }

    /// Watches a descriptor for input that comes, and for its end: who reads less than there is is not told again.
    pub fn add_edge(&self, fd: RawFd, token: Token) -> io::Result<()> {
        self.control_events(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET)
    }

    pub fn change(&self, fd: RawFd, token: Token, writable: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, writable)
    }

    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, Token::Timer, false)
    }

    fn control(&self, operation: i32, fd: RawFd, token: Token, writable: bool) -> io::Result<()> {
        self.control_events(operation, fd, token, libc::EPOLLIN | if writable { libc::EPOLLOUT } else { 0 })
    }

    fn control_events(&self, operation: i32, fd: RawFd, token: Token, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token.to_bits() };
        // SAFETY: `event` lives through the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
    }

    /// Waits for a descriptor or until `deadline`, a time on the monotonic clock in nanoseconds.
    pub fn wait(&mut self, deadline: u64, ready: &mut Vec<Ready>) -> io::Result<()> {
        // Zero would switch the timer off.
        let deadline = deadline.max(1);
        let at = libc::timespec { tv_sec: (deadline / NANOS_PER_SECOND) as _, tv_nsec: (deadline % NANOS_PER_SECOND) as _ };
        let setting = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        let (timer, epoll) = (self.timer.as_raw_fd(), self.epoll.as_raw_fd());
        // SAFETY: `setting` lives through the call, and the old setting is not asked for.
        check(unsafe { libc::timerfd_settime(timer, libc::TFD_TIMER_ABSTIME, &raw const setting, std::ptr::null_mut()) })?;
        // SAFETY: the buffer has room for as many events as is said.
        let result = unsafe { libc::epoll_wait(epoll, self.events.as_mut_ptr(), EVENTS_MAX as i32, -1) };
        let count = match check(result) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        ready.extend(self.events[..count].iter().map(|event| Ready {
            token: Token::from_bits(event.u64),
            readable: event.events & !(libc::EPOLLOUT as u32) != 0,
            writable: event.events & libc::EPOLLOUT as u32 != 0,
            ended: event.events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0,
        }));
        Ok(())
    }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a result that is not an error is a new descriptor that nobody else owns.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Now, on the monotonic clock, in nanoseconds.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * NANOS_PER_SECOND + time.tv_nsec as u64
}
