//! An allocator that knows the largest piece of memory that was asked for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Meter;

#[global_allocator]
static METER: Meter = Meter;

// SAFETY: it is the system's, and counts.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Relaxed);
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        unsafe { System.dealloc(old, layout) }
    }
}

/// Runs `work` on `fed` bytes of a server: no single allocation may be larger
/// than what those bytes can have made, whatever lengths they claim. The most
/// that a byte makes is two events of a 16-byte reply, in a queue that doubles.
pub fn bounded<T>(fed: usize, work: impl FnOnce() -> T) -> T {
    LARGEST.store(0, Relaxed);
    let done = work();
    let largest = LARGEST.load(Relaxed);
    let limit = 16 * 1024 + 32 * fed;
    assert!(
        largest <= limit,
        "{largest} bytes at once after {fed} from the server"
    );
    done
}
