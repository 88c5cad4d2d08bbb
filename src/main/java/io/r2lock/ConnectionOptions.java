package io.r2lock;

import java.time.Duration;

/**
 * Those options of {@link AdvisoryLocks.Builder} that are about connections: how many of each kind, how they are set up, and how
 * their loss is noticed.
 */
public interface ConnectionOptions {

    /** Default of {@link #maxConnections(int)}. */
    int DEFAULT_MAX_CONNECTIONS = 10;

    /** Default of {@link #sessionConnections(int)}. */
    int DEFAULT_SESSION_CONNECTIONS = 1;

    /** Default of {@link #waitingConnections(int)}. */
    int DEFAULT_WAITING_CONNECTIONS = 2;

    /** Default of {@link #handOffLimit(int)}. */
    int DEFAULT_HAND_OFF_LIMIT = 64;

    /** Default of {@link #connectTimeout(Duration)}: 5 seconds. */
    Duration DEFAULT_CONNECT_TIMEOUT = Duration.ofSeconds(5);

    /** Default of {@link #heartbeat(Duration)}: 2 seconds. */
    Duration DEFAULT_HEARTBEAT = Duration.ofSeconds(2);

    /** Default of {@link #heartbeatDeadline(Duration)}: 3 seconds. */
    Duration DEFAULT_HEARTBEAT_DEADLINE = Duration.ofSeconds(3);

    /** Default of {@link #applicationName(String)}. */
    String DEFAULT_APPLICATION_NAME = "r2lock";

    /**
     * The most connections for transaction scope; each hold uses one, and each key that is waited for on the server uses
     * one. The last free one is never spent on such a wait. They are opened on demand and stay open until {@link
     * AdvisoryLocks#close()}.
     *
     * @param maxConnections from 1 to 10,000
     * @return this
     */
    AdvisoryLocks.Builder maxConnections(int maxConnections);

    /**
     * How many connections the holds of session scope share; each key is locked on one of them, always the same one. One is
     * enough for tens of thousands of locks a second; the loss of one is the loss of all holds on it, so more of them part the
     * risk. They are opened on demand and stay open until {@link AdvisoryLocks#close()}.
     *
     * @param sessionConnections from 1 to 1,000
     * @return this
     */
    AdvisoryLocks.Builder sessionConnections(int sessionConnections);

    /**
     * The most connections that session scope waits on in the server's queue, beside those that are shared: one for each key
     * that somebody else has, as long as it is waited for and, after that, held here. Further keys are polled, as with {@link
     * LockRequest#polling()}.
     *
     * @param waitingConnections from 1 to 10,000
     * @return this
     */
    AdvisoryLocks.Builder waitingConnections(int waitingConnections);

    /**
     * How often in a row callers of this process pass a lock on to each other without giving it back to the server, where
     * another process may wait for it; readers that join each other count too. After that many the lock is given back, and the
     * next caller asks the server for it, like everybody else.
     *
     * @param handOffLimit at least 1
     * @return this
     */
    AdvisoryLocks.Builder handOffLimit(int handOffLimit);

    /**
     * The bound on opening and setting up one connection; beyond it a request fails with {@link LockServerException}.
     *
     * @param timeout from 1 ms to 1 hour
     * @return this
     */
    AdvisoryLocks.Builder connectTimeout(Duration timeout);

    /**
     * What {@code pg_stat_activity} shows as {@code application_name} of the lock connections.
     *
     * @param name 1 to 63 bytes of printable ASCII, which is what the server keeps
     * @return this
     */
    AdvisoryLocks.Builder applicationName(String name);

    /**
     * A setting of the server for every lock connection, {@code search_path} say, as {@code SET name = 'value'} would
     * set it. It is set again after work that used the connection. Of what r2lock sets itself only the
     * {@code tcp_*} settings and {@code client_connection_check_interval} can be changed; a server that is not Linux may
     * need 0 for the latter.
     *
     * @param name the setting: letters, digits, dots and underscores
     * @param value its value, without a NUL character
     * @return this
     */
    AdvisoryLocks.Builder connectionSetting(String name, String value);

    /**
     * How often the server is asked, while anything is held, whether the backends of all holds still live: one statement a
     * period, on a connection of its own. Together with {@link #heartbeatDeadline(Duration)} it is the time within which a
     * holder learns that the network was cut silently. A connection that closes is noticed at once, without this.
     *
     * @param period from 10 ms to 1 hour, within what {@link AdvisoryLocks.Builder#build()} checks
     * @return this
     */
    AdvisoryLocks.Builder heartbeat(Duration period);

    /**
     * How long after a heartbeat was due its answer may come; then every hold that no answer has confirmed is lost. Under a
     * third of it, a server that is slow to accept connections looks dead.
     *
     * @param deadline from 10 ms to 1 hour, within what {@link AdvisoryLocks.Builder#build()} checks
     * @return this
     */
    AdvisoryLocks.Builder heartbeatDeadline(Duration deadline);
}
