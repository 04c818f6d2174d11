//! A network of a test's own: a namespace with nothing but a loopback interface, which also carries multicast.

use std::process::Command;

use super::{Client, missing, skip};

/// Runs a test in a network of its own: the servers, clients and requests that it starts are in there too.
pub fn in_own_network(test: impl FnOnce() + Send) {
    if missing(&["ip"]) {
        return;
    }
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // SAFETY: takes no pointers. It concerns this thread and what it starts.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return skip(&format!("no network of its own: {}", std::io::Error::last_os_error()));
            }
            for what in ["link set lo up multicast on", "route add 224.0.0.0/4 dev lo"] {
                Client::start(Command::new("ip").args(what.split(' '))).succeed();
            }
            test();
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
