import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;

/**
 * Echo server on java.net, one thread per client; four bytes of length, high byte first.
 *
 * <p>{@code java EchoThreads MAX_FRAME}. Listens on a free port and prints it.
 */
public final class EchoThreads {
    public static void main(String[] arguments) throws IOException {
        int maxFrame = Integer.parseInt(arguments[0]);
        try (ServerSocket server = new ServerSocket(0, 1024, InetAddress.getLoopbackAddress())) {
            System.out.println(server.getLocalPort());
            while (true) {
                Socket client = server.accept();
                new Thread(() -> serve(client, maxFrame)).start();
            }
        }
    }

    private static void serve(Socket client, int maxFrame) {
        try (client) {
            client.setTcpNoDelay(true);
            InputStream input = client.getInputStream();
            echo(new DataInputStream(input), client.getOutputStream(), maxFrame);
            // FIN first, then the client's: closing with unread bytes would reset the connection.
            client.shutdownOutput();
            byte[] ignored = new byte[8192];
            while (input.read(ignored) >= 0) {}
        } catch (IOException gone) {
            // The client has gone; there is no one left to tell.
        }
    }

    /** Echoes until the client is done or announces too much. */
    private static void echo(DataInputStream input, OutputStream output, int maxFrame)
            throws IOException {
        try {
            while (true) {
                int length = input.readInt();
                if (length < 0 || length > maxFrame) {
                    return;
                }
                byte[] message = ByteBuffer.allocate(4 + length).putInt(length).array();
                input.readFully(message, 4, length);
                output.write(message);
            }
        } catch (EOFException end) {
            // Also in the middle of a message, which will never be whole.
        }
    }
}
