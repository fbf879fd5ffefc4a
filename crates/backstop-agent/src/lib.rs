//! backstop-agent
