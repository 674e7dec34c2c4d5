//! The six-digit codes that validate phone numbers, and their stored hashes.
//!
//! A code has too little entropy for a plain hash, so Bindery stores its argon2id hash (RFC 9106). Each hash
//! costs tens of milliseconds and 19 MiB of memory, so callers must bound how many run at once.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::ids::Token;

/// The number of different codes.
const CODES: u64 = 1_000_000;

/// Makes a code from 64 random bits. The modulo makes some codes likelier by less than one in ten billion, which
/// does not help an attacker.
pub fn code_from_random(bytes: [u8; 8]) -> Token {
    let code = u64::from_be_bytes(bytes) % CODES;
    Token::parse(&format!("{code:06}")).expect("six digits are printable")
}

/// The stored hash of a code, with its salt.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeHash {
    salt: [u8; 16],
    hash: [u8; 32],
}

impl std::fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeHash(..)")
    }
}

/// The 19 MiB that one hash needs. Use it again: allocators keep freed blocks of this size for themselves.
#[derive(Default)]
pub struct Memory(Vec<Block>);

impl CodeHash {
    /// Hashes a code with a random salt. It is slow on purpose.
    pub fn of(code: &Token, salt: [u8; 16], memory: &mut Memory) -> Self {
        Self { salt, hash: argon2id(code.as_str(), &salt, memory) }
    }

    /// Whether a person typed this code, with or without hyphens. It is slow on purpose.
    pub fn matches(&self, typed: &Token, memory: &mut Memory) -> bool {
        let digits: String = typed.as_str().chars().filter(|c| *c != '-').collect();
        argon2id(&digits, &self.salt, memory).ct_eq(&self.hash).into()
    }
}

/// Hashes with the minimum parameters that OWASP's password storage cheat sheet recommends for argon2id.
fn argon2id(code: &str, salt: &[u8; 16], memory: &mut Memory) -> [u8; 32] {
    let params = Params::new(19 * 1024, 2, 1, Some(32)).expect("parameters within the limits");
    memory.0.resize(params.block_count(), Block::default());
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(code.as_bytes(), salt, &mut hash, &mut memory.0)
        .expect("the lengths are within the limits");
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        Token::parse(text).expect("a token")
    }

    #[test]
    fn a_code_is_six_digits_and_only_it_matches() {
        let code = code_from_random([0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(code.as_str(), "000007");
        let mut memory = Memory::default();
        let hash = CodeHash::of(&code, [3; 16], &mut memory);
        for (typed, right) in [("000007", true), ("000-007", true), ("7", false), ("000008", false)] {
            assert_eq!(hash.matches(&token(typed), &mut memory), right, "{typed}");
        }
    }
}
