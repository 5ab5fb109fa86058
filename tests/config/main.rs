//! The configuration: the example file, what is wrong in a file and in the environment, and what changes.

mod changes;
mod check;
mod environment;
mod example;
mod secrets;
mod support;
mod wrong;
