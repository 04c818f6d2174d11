//! Who watches: viewers join in their pace and leave, some never read.

use std::io;

use super::{JOIN_LIMIT, Load, MILLIS, NANOS_PER_SECOND, PUBLISH_LIMIT, Token, now};
use crate::tally::Tally;
use crate::viewer::Viewer;

impl Load {
    /// Until so many watch: those that are too many leave, others join in the pace that is asked for. Who was sent away is replaced.
    pub fn resize(&mut self, wanted: usize) -> io::Result<()> {
        self.closed.clear();
        for at in wanted..self.viewers.len() {
            let publisher = self.publisher_for(at);
            self.expecting[usize::from(publisher)] -= 1;
        }
        self.viewers.truncate(wanted);
        let began = now();
        let missing: Vec<usize> = (0..wanted).filter(|at| self.viewers.get(*at).is_none_or(Option::is_none)).collect();
        for (number, at) in missing.into_iter().enumerate() {
            let turn = began + number as u64 * NANOS_PER_SECOND / self.args.join_rate;
            if turn > now() + MILLIS {
                self.run_until(turn, |_| false)?;
            }
            self.connect(at)?;
        }
        self.run_until(now() + JOIN_LIMIT, Load::all_joined)
    }

    fn all_joined(&self) -> bool {
        self.viewers.iter().flatten().all(|viewer| viewer.join_time().is_some())
    }

    pub(super) fn publisher_for(&self, number: usize) -> u16 {
        (number % usize::from(self.args.publishers)) as u16
    }

    fn connect(&mut self, at: usize) -> io::Result<()> {
        let publisher = self.publisher_for(at);
        let viewer = Viewer::connect(&self.args, &self.route, publisher, false)?;
        for (socket, fd) in viewer.sockets().into_iter().enumerate() {
            match socket {
                0 => self.poll.add_edge(fd, Token::Viewer { at, socket })?,
                _ => self.poll.add(fd, Token::Viewer { at, socket }, false)?,
            }
        }
        match self.viewers.get_mut(at) {
            Some(place) => *place = Some(viewer),
            None => {
                self.expecting[usize::from(publisher)] += 1;
                self.viewers.push(Some(viewer));
            }
        }
        Ok(())
    }

    /// Those beside the viewers that are measured.
    pub fn join_others(&mut self) -> io::Result<()> {
        for number in 0..self.args.stalled {
            self.connect_stalled(number)?;
        }
        for number in 0..self.args.slow {
            let publisher = self.publisher_for(number);
            self.slow.add(Viewer::connect(&self.args, &self.route, publisher, true)?, publisher, now());
        }
        self.visitors.begin(now());
        Ok(())
    }

    /// It only reads until the server has been asked in full.
    fn connect_stalled(&mut self, number: usize) -> io::Result<()> {
        let mut viewer = Viewer::connect(&self.args, &self.route, self.publisher_for(number), true)?;
        let limit = now() + PUBLISH_LIMIT;
        // What it reads is not counted.
        let mut ignored = Tally::new(self.args.publishers.into());
        while !viewer.has_asked() && now() < limit {
            viewer.readable(0, now(), &mut self.buffers, &mut ignored)?;
            self.run_until(now() + MILLIS, |_| false)?;
        }
        self.stalled.push(viewer);
        Ok(())
    }
}
