//! What a viewer costs on the steady path besides its system call: no allocation, and a sixteenth of a look at the clock.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::sim::World;
use super::tests::{Actor, tracks, video};
use crate::config::Config;
use crate::media::MediaEvent;
use crate::session::Output;

/// The system's allocator, counting per thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; counting allocates nothing and cannot fail: a thread at its end does not count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What sending [`FRAMES`] frames to so many viewers took.
#[derive(Debug)]
struct Cost {
    allocations: usize,
    clock_reads: usize,
    sends: usize,
}

const FRAMES: usize = 20;
const ROOM_BYTES: usize = 64 * 1024;

fn cost_of(viewers: usize) -> Cost {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut ms = 0;
    let mut show = |world: &mut World| {
        let frame = video(world, ms, ms % 400 == 0);
        ms += 40;
        publisher.act(world, [Output::Media(MediaEvent::Frame(frame))]);
    };
    show(&mut world);
    let viewers: Vec<Actor> = (0..viewers).map(|_| Actor::viewer(&mut world, 0)).collect();
    // Buffers find their sizes.
    for _ in 0..FRAMES {
        show(&mut world);
    }
    for viewer in &viewers {
        world.make_room(viewer.peer, ROOM_BYTES);
    }
    world.take_clock_reads();
    world.take_sends();
    let before = ALLOCATIONS.get();
    for _ in 0..FRAMES {
        show(&mut world);
    }
    let allocations = ALLOCATIONS.get() - before;
    Cost { allocations, clock_reads: world.take_clock_reads(), sends: world.take_sends() }
}

#[test]
fn more_viewers_cost_no_allocation_and_few_looks_at_the_clock() {
    let (few, many) = (cost_of(16), cost_of(16 * 20));
    assert_eq!((few.sends, many.sends), (16 * FRAMES, 16 * 20 * FRAMES));
    assert_eq!(many.allocations, few.allocations, "{few:?}, {many:?}");
    assert!(many.clock_reads - few.clock_reads <= 19 * FRAMES, "{few:?}, {many:?}");
}
