//! backstop-provider
