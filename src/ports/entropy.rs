//! Random bytes.

use std::cell::RefCell;

use zeroize::{Zeroize, Zeroizing};

/// A source of random bytes fit for keys and nonces.
pub trait Entropy: Send + Sync {
    /// Fills the buffer.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The source of randomness failed.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes: {0}")]
pub struct NoEntropy(pub String);

/// The operating system's generator, asked for many nonces at a time. Each byte is given out once and wiped.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

/// 85 nonces of 24 bytes.
const POOL_BYTES: usize = 2040;

/// Random bytes that nobody has had yet, at the end of the array.
struct Pool {
    bytes: Zeroizing<[u8; POOL_BYTES]>,
    left: usize,
}

thread_local! {
    /// A pool per thread: no thread waits for another's.
    static POOL: RefCell<Pool> = RefCell::new(Pool { bytes: Zeroizing::new([0; POOL_BYTES]), left: 0 });
}

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        // The pool is gone only while its thread ends.
        POOL.try_with(|pool| pool.borrow_mut().fill(buffer)).unwrap_or_else(|_| ask_system(buffer))
    }
}

impl Pool {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        if self.left < buffer.len() {
            if buffer.len() > POOL_BYTES {
                return ask_system(buffer);
            }
            ask_system(&mut self.bytes[..])?;
            self.left = POOL_BYTES;
        }
        let (_, unused) = self.bytes.split_at_mut(POOL_BYTES - self.left);
        for (to, from) in buffer.iter_mut().zip(unused) {
            *to = *from;
            from.zeroize();
        }
        self.left -= buffer.len();
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the port that the ban points to")]
fn ask_system(buffer: &mut [u8]) -> Result<(), NoEntropy> {
    getrandom::fill(buffer).map_err(|error| NoEntropy(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_bytes_are_given_twice_and_none_are_kept() {
        let mut seen = BTreeSet::new();
        for _ in 0..1000 {
            let mut nonce = [0; 24];
            SystemEntropy.fill(&mut nonce).unwrap();
            assert!(seen.insert(nonce));
        }
        POOL.with_borrow(|pool| {
            let (given, unused) = pool.bytes.split_at(POOL_BYTES - pool.left);
            assert!(given.iter().all(|byte| *byte == 0));
            assert!(unused.iter().any(|byte| *byte != 0));
        });
    }

    #[test]
    fn any_length_is_filled() {
        for length in [0, 1, POOL_BYTES - 1, POOL_BYTES, POOL_BYTES + 1, 3 * POOL_BYTES] {
            let mut buffer = vec![0; length];
            SystemEntropy.fill(&mut buffer).unwrap();
            assert!(length < 24 || buffer.rchunks(24).next().unwrap().iter().any(|byte| *byte != 0));
        }
    }
}
