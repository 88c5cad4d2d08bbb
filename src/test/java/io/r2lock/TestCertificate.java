package io.r2lock;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** A self-signed certificate for localhost and its key, made by the JDK's {@code keytool} for one test server. */
final class TestCertificate {

    private static final String STORE_PASSWORD = "changeit";

    private final Path directory;
    private final String key;

    private TestCertificate(Path directory, String key) {
        this.directory = directory;
        this.key = key;
    }

    static TestCertificate create() {
        try {
            Path directory = Files.createTempDirectory("r2lock-tls");
            Path store = directory.resolve("store.p12");
            keytool(store);
            KeyStore keys = KeyStore.getInstance("PKCS12");
            try (InputStream in = Files.newInputStream(store)) {
                keys.load(in, STORE_PASSWORD.toCharArray());
            }
            Files.writeString(
                    directory.resolve("server.crt"),
                    pem("CERTIFICATE", keys.getCertificate("server").getEncoded()));
            return new TestCertificate(
                    directory,
                    pem(
                            "PRIVATE KEY",
                            keys.getKey("server", STORE_PASSWORD.toCharArray()).getEncoded()));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    /** The certificate, which is its own root. */
    Path pem() {
        return directory.resolve("server.crt");
    }

    /** Puts certificate and key where a server with {@code ssl = on} looks for them, and host rules before its others. */
    void install(Path data, String... hostRules) {
        try {
            Files.copy(pem(), data.resolve("server.crt"));
            Path file = Files.createFile(
                    data.resolve("server.key"),
                    PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
            Files.writeString(file, key);
            Path rules = data.resolve("pg_hba.conf");
            Files.writeString(rules, String.join("\n", hostRules) + "\n" + Files.readString(rules));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    void delete() {
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file : files.toList()) {
                Files.delete(file);
            }
            Files.delete(directory);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void keytool(Path store) throws IOException {
        Path keytool = Path.of(System.getProperty("java.home"), "bin", "keytool");
        List<String> command = List.of(
                keytool.toString(),
                "-genkeypair",
                "-alias",
                "server",
                "-keyalg",
                "EC",
                "-dname",
                "CN=localhost",
                "-ext",
                "san=dns:localhost,ip:127.0.0.1",
                "-validity",
                "2",
                "-storetype",
                "PKCS12",
                "-storepass",
                STORE_PASSWORD,
                "-keystore",
                store.toString());
        Process process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .start();
        int result = process.onExit().orTimeout(30, TimeUnit.SECONDS).join().exitValue();
        if (result != 0) {
            throw new IOException("keytool ended with " + result);
        }
    }

    private static String pem(String what, byte[] encoded) {
        return "-----BEGIN " + what + "-----\n"
                + Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(encoded)
                + "\n-----END " + what + "-----\n";
    }
}
