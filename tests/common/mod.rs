//! Shared by the test suites.

#![allow(dead_code, unreachable_pub, reason = "each suite uses a part of it")]

pub mod fake;
