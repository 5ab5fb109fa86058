//! A node's JSON-RPC as a source of work, against a node by script.

mod blocks;
mod connections;
mod nonsense;
mod node;
mod rig;
mod trouble;
mod work;
