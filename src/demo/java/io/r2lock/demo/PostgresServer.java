package io.r2lock.demo;

/** The PostgreSQL that an instance works on. */
interface PostgresServer extends AutoCloseable {

    /** Where it is, as R2DBC names it. */
    String url();

    /** What to tell others to use: an existing server's URL may hold a password. */
    String urlToTell();

    @Override
    void close();

    /** A server that was there before, and stays. */
    record Existing(String url) implements PostgresServer {

        @Override
        public String urlToTell() {
            return "THE-URL-YOU-GAVE";
        }

        @Override
        public void close() {
            // not ours to end
        }
    }
}
