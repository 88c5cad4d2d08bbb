package io.r2lock;

import static io.r2dbc.spi.ConnectionFactoryOptions.DATABASE;
import static io.r2dbc.spi.ConnectionFactoryOptions.HOST;
import static io.r2dbc.spi.ConnectionFactoryOptions.PASSWORD;
import static io.r2dbc.spi.ConnectionFactoryOptions.PORT;
import static io.r2dbc.spi.ConnectionFactoryOptions.USER;

import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.PostgresqlConnectionFactoryProvider;
import io.r2dbc.postgresql.client.SSLMode;
import io.r2dbc.spi.ConnectionFactoryOptions;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import org.jspecify.annotations.Nullable;
import org.testcontainers.postgresql.PostgreSQLContainer;
import org.testcontainers.utility.DockerImageName;

/**
 * The PostgreSQL that a test runs against.
 *
 * <p>{@link #newest()} and {@link #oldest()} are shared by the JVM and never stopped or configured by a test; a test that
 * needs to do so takes {@link #own}. The system property {@code r2lock.test.server} says what {@link #newest()} is:
 * {@code embedded} (from binaries, the default), {@code docker}, or {@code url}, the server at {@code R2LOCK_TEST_URL}.
 */
final class TestServer implements AutoCloseable {

    /** The user of {@link #ownWithTls}, who gets in over TLS and with a password only. */
    static final String TLS_USER = "app";

    private static final String TLS_PASSWORD = "correct horse battery staple";

    private final ConnectionFactoryOptions address;
    private final @Nullable EmbeddedServer embedded;
    private final @Nullable TestCertificate certificate;
    private final boolean shared;
    private final int major;
    private volatile boolean closed;

    private TestServer(
            ConnectionFactoryOptions address,
            @Nullable EmbeddedServer embedded,
            @Nullable TestCertificate certificate,
            boolean shared) {
        this.address = address;
        this.embedded = embedded;
        this.certificate = certificate;
        this.shared = shared;
        this.major = (int) count("select current_setting('server_version_num')::int / 10000");
    }

    /** The newest supported major, shared by the JVM. */
    static TestServer newest() {
        return Newest.SERVER;
    }

    /** The oldest supported major, shared by the JVM, always embedded. */
    static TestServer oldest() {
        return Oldest.SERVER;
    }

    /** A server of the caller's own, to crash and to configure: 14 or 18, always embedded. */
    static TestServer own(int major, Map<String, String> serverSettings) {
        return embedded(EmbeddedServer.start(major, serverSettings, data -> {}), null, false);
    }

    /** A server of the caller's own that can also be reached from inside a network. */
    static TestServer ownOn(CuttableNetwork network) {
        return embedded(EmbeddedServer.start(network), null, false);
    }

    /** A server of the caller's own whose {@link #configuration()} goes over TLS, verified, with a SCRAM password. */
    static TestServer ownWithTls(int major) {
        TestCertificate certificate = TestCertificate.create();
        EmbeddedServer embedded = EmbeddedServer.start(
                major,
                Map.of("ssl", "on"),
                data -> certificate.install(
                        data,
                        "hostssl all " + TLS_USER + " all scram-sha-256",
                        "host all " + TLS_USER + " all reject"));
        TestServer server = embedded(embedded, certificate, false);
        server.execute("create role " + TLS_USER + " superuser login password '" + TLS_PASSWORD + "'");
        return server;
    }

    PostgresqlConnectionFactory connectionFactory() {
        return new PostgresqlConnectionFactory(configuration().build());
    }

    /** How to reach this server; port, user and the like can still be changed. */
    PostgresqlConnectionConfiguration.Builder configuration() {
        PostgresqlConnectionConfiguration.Builder configuration = PostgresqlConnectionFactoryProvider.builder(address);
        if (certificate != null) {
            configuration
                    .username(TLS_USER)
                    .password(TLS_PASSWORD)
                    .sslMode(SSLMode.VERIFY_FULL)
                    .sslRootCert(certificate.pem().toString());
        }
        return configuration;
    }

    String host() {
        return (String) address.getRequiredValue(HOST);
    }

    int port() {
        return (Integer) address.getRequiredValue(PORT);
    }

    String database() {
        return (String) address.getRequiredValue(DATABASE);
    }

    int major() {
        return major;
    }

    /** Ends the server with {@code pg_ctl stop -m immediate}: every client is told that it is being shut down. */
    void stop() {
        owned().stop();
    }

    /** Kills all processes of the server: its clients see their sockets close. */
    void crash() {
        owned().crash();
    }

    /** Starts the server again after {@link #stop()} or {@link #crash()}, on the same port. */
    void start() {
        owned().start();
    }

    void restart() {
        stop();
        start();
    }

    boolean isClosed() {
        return closed;
    }

    /** Ends the server and removes its files; a shared server lives as long as the JVM. */
    @Override
    public void close() {
        if (!shared && !closed) {
            closed = true;
            owned().close();
            if (certificate != null) {
                certificate.delete();
            }
        }
    }

    /** The rows of a query, or nothing if the statement has none. Blocks. */
    List<Map<String, @Nullable Object>> query(String sql) {
        try (Connection connection = connect();
                Statement statement = connection.createStatement()) {
            List<Map<String, @Nullable Object>> rows = new ArrayList<>();
            if (statement.execute(sql)) {
                ResultSet result = statement.getResultSet();
                ResultSetMetaData columns = result.getMetaData();
                while (result.next()) {
                    Map<String, @Nullable Object> row = new LinkedHashMap<>();
                    for (int i = 1; i <= columns.getColumnCount(); i++) {
                        row.put(columns.getColumnLabel(i), result.getObject(i));
                    }
                    rows.add(row);
                }
            }
            return rows;
        } catch (SQLException e) {
            throw new IllegalStateException(sql, e);
        }
    }

    /** The one number that a query answers. Blocks. */
    long count(String sql) {
        return ((Number) Objects.requireNonNull(
                        query(sql).get(0).values().iterator().next(), sql))
                .longValue();
    }

    /** Runs statements one after the other on one connection, each in its own transaction. Blocks. */
    void execute(String... sql) {
        try (Connection connection = connect();
                Statement statement = connection.createStatement()) {
            for (String one : sql) {
                statement.execute(one);
            }
        } catch (SQLException e) {
            throw new IllegalStateException(String.join("; ", sql), e);
        }
    }

    /** A JDBC connection as the server's owner, for what a test does beside the code that it tests. Blocks. */
    Connection connect() throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", (String) address.getRequiredValue(USER));
        Object password = address.getValue(PASSWORD);
        if (password != null) {
            properties.setProperty("password", password.toString());
        }
        properties.setProperty("ApplicationName", "test-bed");
        return DriverManager.getConnection("jdbc:postgresql://" + host() + ":" + port() + "/" + database(), properties);
    }

    @Override
    public String toString() {
        return "PostgreSQL " + major;
    }

    private EmbeddedServer owned() {
        if (shared || embedded == null) {
            throw new IllegalStateException("only a server of the test's own can be stopped");
        }
        return embedded;
    }

    private static TestServer embedded(EmbeddedServer embedded, @Nullable TestCertificate certificate, boolean shared) {
        return new TestServer(
                address("localhost", embedded.port(), "postgres", "postgres", "postgres"),
                embedded,
                certificate,
                shared);
    }

    private static TestServer docker() {
        DockerImageName image = DockerImageName.parse(System.getProperty("r2lock.test.image", "postgres:18-alpine"))
                .asCompatibleSubstituteFor("postgres");
        PostgreSQLContainer container = new PostgreSQLContainer(image);
        container.setCommand("postgres", "-c", "fsync=off", "-c", "max_connections=200");
        container.start();
        return new TestServer(
                address(
                        container.getHost(),
                        container.getMappedPort(PostgreSQLContainer.POSTGRESQL_PORT),
                        container.getUsername(),
                        container.getPassword(),
                        container.getDatabaseName()),
                null,
                null,
                true);
    }

    private static TestServer url() {
        String url = System.getenv("R2LOCK_TEST_URL");
        if (url == null) {
            throw new IllegalStateException("r2lock.test.server=url needs R2LOCK_TEST_URL=r2dbc:postgresql://...");
        }
        ConnectionFactoryOptions given = ConnectionFactoryOptions.parse(url);
        return new TestServer(
                given.getValue(PORT) == null ? given.mutate().option(PORT, 5432).build() : given, null, null, true);
    }

    private static ConnectionFactoryOptions address(
            String host, int port, String user, String password, String database) {
        return ConnectionFactoryOptions.builder()
                .option(ConnectionFactoryOptions.DRIVER, "postgresql")
                .option(HOST, host)
                .option(PORT, port)
                .option(USER, user)
                .option(PASSWORD, password)
                .option(DATABASE, database)
                .build();
    }

    private static final class Newest {
        static final TestServer SERVER = start(System.getProperty("r2lock.test.server", "embedded"));

        private static TestServer start(String kind) {
            return switch (kind) {
                case "embedded" ->
                    embedded(EmbeddedServer.start(EmbeddedServer.NEWEST, Map.of(), data -> {}), null, true);
                case "docker" -> docker();
                case "url" -> url();
                default -> throw new IllegalArgumentException("r2lock.test.server: " + kind);
            };
        }
    }

    private static final class Oldest {
        static final TestServer SERVER =
                embedded(EmbeddedServer.start(EmbeddedServer.OLDEST, Map.of(), data -> {}), null, true);
    }
}
