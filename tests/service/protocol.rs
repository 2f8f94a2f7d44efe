//! Traces that an exhaustive exploration of an earlier protocol has found, each of which the protocol now forbids. The names
//! say what must hold; what went wrong is said above each.

mod asks;
mod creations;
mod sends;
