#!/usr/bin/env escript
%% Echo server in Erlang, one process per client; {packet, 4} is four bytes of length, high byte first.
%%
%%     escript echo.escript MAX_FRAME
%%
%% Listens on a free port and prints it.

main([MaxFrame]) ->
    Options = [binary, {packet, 4}, {packet_size, list_to_integer(MaxFrame)}, {active, false},
               {ip, {127, 0, 0, 1}}, {nodelay, true}, {exit_on_close, false}, {backlog, 1024}],
    {ok, Listener} = gen_tcp:listen(0, Options),
    {ok, Port} = inet:port(Listener),
    io:format("~b~n", [Port]),
    accept(Listener).

accept(Listener) ->
    {ok, Client} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> echo(Client) end end),
    ok = gen_tcp:controlling_process(Client, Pid),
    Pid ! go,
    accept(Listener).

%% Echoes until the client is done or announces too much, which packet_size refuses.
echo(Client) ->
    case gen_tcp:recv(Client, 0) of
        {ok, Message} ->
            case gen_tcp:send(Client, Message) of
                ok -> echo(Client);
                {error, _} -> gen_tcp:close(Client)
            end;
        {error, _} ->
            gen_tcp:close(Client)
    end.
