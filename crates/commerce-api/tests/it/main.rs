//! The api over HTTP on a real database.

#![cfg(test)]

mod access;
mod atomicity;
mod choices;
mod connections;
mod document;
mod groups;
mod harness;
mod hostile;
mod import;
mod likes;
mod limits;
mod lists;
mod live;
mod merchant;
mod orders;
mod outages;
mod pages;
mod products;
mod rankings;
mod rates;
mod references;
mod tokens;
mod views;
