//! What a client of quoris sees: RESP, sessions, routing, configuration, administration.
